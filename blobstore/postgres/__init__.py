"""The blobs in PostgreSQL: their rows, the chunks of the default store, inputs and ids."""
