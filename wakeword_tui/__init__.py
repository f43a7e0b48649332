"""The two front doors of the engine: the app in the terminal, and the command line."""
