"""Picture files in and out, with their metadata: PNG, JPEG, TIFF, WebP, BMP."""
