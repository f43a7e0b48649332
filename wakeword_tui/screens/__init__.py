"""The screens, one file each; each answers one question at a glance."""
