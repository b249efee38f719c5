"""The pages, a module each; `register(desk)` serves it."""
