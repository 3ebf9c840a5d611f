"""Training of the linear layers that the linear localizer needs."""
