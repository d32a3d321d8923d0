"""Given item embeddings: files of rows, their cache, SVD. Imports raw, sessions, histories."""
