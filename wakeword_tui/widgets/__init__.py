"""The widgets of the app: small, drawn by hand where a number or a curve is live."""
