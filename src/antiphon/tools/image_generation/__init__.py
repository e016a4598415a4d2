"""The hosted tool `image_generation`: images by whatever image server there is (issue 7)."""
