"""What tasks with a decoder are made of: tokenizer, model, windows of text, rows of prompt and answer."""
