"""The same training by what users would pick instead, side by side; see README.md here."""
