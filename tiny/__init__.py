"""How the bundled small models were made: synthetic images, training, and their tests. Not part of the wheel."""
