package admin

import (
	"context"
	"errors"
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
	var found []store.Ref
	var err error
	if len(digits) == idDigits {
		found, err = s.direct(ctx, digits, ref)
	}
	if err == nil && len(found) == 0 {
		found, err = s.scan(ctx, digits, ref)
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

// direct looks a whole id up at everyone who may have registered it.
func (s *Server) direct(ctx context.Context, digits string, ref *adminpb.Ref) (found []store.Ref, err error) {
	id, err := readID("id", digits)
	if err != nil {
		return nil, err
	}
	tries := []store.Ref{{Key: lifecycle.Key{Requester: s.cfg.Node, ID: id}, Role: lifecycle.Requester}, {Key: lifecycle.Key{Requester: s.cfg.Node, ID: id}, Role: lifecycle.Requested}}
	for name := range s.cfg.Engine.Book().Partners {
		if name != s.cfg.Node {
			tries = append(tries, store.Ref{Key: lifecycle.Key{Requester: name, ID: id}, Role: lifecycle.Requested})
		}
	}
	for _, t := range tries {
		if !wanted(t, ref) {
			continue
		}
		_, err := s.cfg.Engine.Get(ctx, t)
		if err == nil {
			found = add(found, t)
		} else if !errors.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return found, nil
}

// scan looks through all requests.
func (s *Server) scan(ctx context.Context, digits string, ref *adminpb.Ref) (found []store.Ref, err error) {
	for st, err := range s.cfg.Engine.Find(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		at := store.RefOf(&st.Record)
		if strings.HasPrefix(at.Key.ID.String(), digits) && wanted(at, ref) {
			if found = add(found, at); len(found) > mostNamed {
				break
			}
		}
	}
	return found, nil
}

// wanted reports whether requester and role are those of ref, where it has any.
func wanted(at store.Ref, ref *adminpb.Ref) bool {
	return (ref.GetRequester() == "" || ref.GetRequester() == at.Key.Requester) &&
		(ref.GetRole() == adminpb.Request_ROLE_UNSPECIFIED || lifecycle.Role(ref.GetRole()) == at.Role)
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
