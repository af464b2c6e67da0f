"""Vision encoders whose patch features the decoder's are led to: pretrained ones, and a stand-in trained here."""
