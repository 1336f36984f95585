"""What every part stands on and nothing of crossbars: errors, data, documents, plug-ins."""
