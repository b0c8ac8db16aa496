"""The custom noise operator `noisevote::GaussianNoise`: contract, reference, function body, kernel, torch twin."""
