"""Files of tables, arrays, images and predictions, read into columns; fingerprints of their bytes."""
