"""Ways to align: each makes one step's loss of a student and the images that were rated. One file each."""
