"""The page Schemas: subjects, versions, where they are in use."""
