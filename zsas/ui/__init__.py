"""The page: one Gradio app over the engine.

Nothing here decides about pixels. `layout.py` says what stands on the page, `events/` what happens on it, `page.py`
puts both together; `engine.py` holds what all visitors share and `visitor.py` what belongs to one.
"""
