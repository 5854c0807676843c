"""What filters ask of texts: words, characters, language, WordNet entities, patterns, phrases."""
