"""The starter model against real cells, by the sealed judge unless a figure says otherwise."""
