"""From page to clean document: extraction, language, filters, privacy, quality, deduplication, mix."""
