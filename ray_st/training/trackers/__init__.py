"""Who is told how a training goes, besides metrics.jsonl."""
