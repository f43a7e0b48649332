import engine  # noqa: F401 -- its torchaudio guard must stand before anything imports transformers
