"""New clinical concepts: sub-labels, the head that learns from them, the word, and the generator that learns both."""
