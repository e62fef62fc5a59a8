"""The verdict: `diagnosis` judges a trained model, `findings` lists what is looked for, `checks` holds the conditions."""
