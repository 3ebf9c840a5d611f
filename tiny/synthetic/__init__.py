"""Synthetic images: seeded inspection photographs with exact defect masks."""
