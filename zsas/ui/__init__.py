"""The page: one Gradio app over the engine.

Nothing here decides about pixels. `page.py` lays the page out and wires it, `session.py` holds what is shared and
what belongs to one visitor, the other files each answer one kind of event.
"""
