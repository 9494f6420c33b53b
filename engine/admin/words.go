package admin

import "github.com/pannier/pannier/spec/adminpb"

// Words that the commands and the web page have in common.

// Problem is a failure in a line; "" for none.
func Problem(f *adminpb.Failure) string {
	if f == nil {
		return ""
	}
	text := f.GetName()
	if f.GetSide() == "peer" {
		text += " at the partner"
	}
	if f.GetCause() != "" {
		text += ": " + f.GetCause()
	}
	return text
}
