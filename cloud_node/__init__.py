"""The cloud service: admits evidence, reviews it in batches, stores every answer before it is sent."""
