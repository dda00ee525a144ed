"""What a run learns from: ratings aggregated over raters and frozen in its folder."""
