"""What is scored and how: item tables, ranks, top-k, metrics. Imports batch, layers.masking."""
