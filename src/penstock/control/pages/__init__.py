"""Pages of the control center. Each module's `register(desk)` adds its pages to the application."""
