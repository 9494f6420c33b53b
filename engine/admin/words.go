package admin

import "github.com/pannier/pannier/spec/adminpb"

// Words that the commands and the web page have in common.

// Partner is who the bytes come from or go to; of a third-party copy both, for none come here.
func Partner(r *adminpb.Request) string {
	switch {
	case r.GetThird() == "":
		return r.GetPartner()
	case r.GetFetch():
		return r.GetThird() + " to " + r.GetPartner()
	}
	return r.GetPartner() + " to " + r.GetThird()
}

// Problem is a failure in a line; "" for none.
func Problem(f *adminpb.Failure) string {
	if f == nil {
		return ""
	}
	text := f.GetName()
	if f.GetSide() == "peer" {
		text += " at the partner"
	}
	if f.GetPhase() != "" {
		text += ", in " + f.GetPhase()
	}
	if f.GetCause() != "" {
		text += ": " + f.GetCause()
	}
	return text
}
