"""What the multimodal task is made of: model, captions and images, scores."""
