"""From a document or a conversation to token ids and labels."""
