package admin

import (
	"context"
	"strings"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Digits of an id: all, and the fewest of a prefix.
const (
	idDigits  = 2 * len(lifecycle.ID{})
	minDigits = 4
)

// mostNamed is how many requests an error about an ambiguous prefix names.
const mostNamed = 5

// resolve finds the request that is meant.
func (s *Server) resolve(ctx context.Context, ref *adminpb.Ref) (store.Ref, error) {
	const op = "find request"
	digits := strings.ToLower(ref.GetId())
	if len(digits) < minDigits || len(digits) > idDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return store.Ref{}, fault.New(op, fault.Invalid, "%.40q is not an id: write its 32 hexadecimal digits, or the first of them, at least %d", ref.GetId(), minDigits)
	}
	all, err := s.cfg.Engine.Named(ctx, store.Name{Digits: digits, Requester: ref.GetRequester(), Role: lifecycle.Role(ref.GetRole())}, 2*(mostNamed+1))
	var found []store.Ref
	for _, at := range all {
		found = add(found, at)
	}
	switch {
	case err != nil:
		return store.Ref{}, err
	case len(found) == 0:
		return store.Ref{}, fault.New(op, fault.NotFound, "no request here has the id %s", ref.GetId())
	case len(found) > 1:
		return store.Ref{}, ambiguous(ref.GetId(), found)
	}
	return found[0], nil
}

// add keeps one record of each request: the requester's, if both are here.
func add(found []store.Ref, at store.Ref) []store.Ref {
	for i := range found {
		if found[i].Key == at.Key {
			if at.Role == lifecycle.Requester {
				found[i] = at
			}
			return found
		}
	}
	return append(found, at)
}

func ambiguous(id string, found []store.Ref) error {
	names := make([]string, 0, mostNamed+1)
	for _, f := range found[:min(len(found), mostNamed)] {
		names = append(names, f.Key.ID.String()+"@"+f.Key.Requester)
	}
	if len(found) > mostNamed {
		names = append(names, "...")
	}
	return fault.New("find request", fault.Invalid, "%s is of several requests: %s", id, strings.Join(names, ", "))
}
