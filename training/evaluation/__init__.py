"""How good generated images are: figures with their intervals, from features and from a judge that never taught."""
