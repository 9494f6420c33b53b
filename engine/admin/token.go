package admin

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Tokens are objects: making and ending one is applying and deleting it.

func (s *Server) CreateToken(ctx context.Context, in *adminpb.CreateTokenRequest) (*adminpb.CreateTokenReply, error) {
	const op = "create token"
	if s.cfg.Tokens == nil || s.cfg.Objects == nil {
		return nil, unsupported(op, "this node has no tokens")
	}
	want := access.Token{Name: in.GetName(), Rules: in.GetRules()}
	for _, text := range in.GetScopes() {
		scope, err := access.ParseScope(text)
		if err != nil {
			return nil, err
		}
		want.Scopes = append(want.Scopes, scope)
	}
	book := s.cfg.Engine.Book()
	for _, name := range in.GetRules() {
		if _, err := book.Rule(name); err != nil {
			return nil, err
		}
	}
	var err error
	if want.Expires, err = readTime("expiry", in.GetExpires()); err != nil {
		return nil, err
	}
	all, err := s.tokens()
	switch {
	case err != nil:
		return nil, err
	case len(want.Scopes) == 0:
		return nil, fault.New(op, fault.Invalid, "say what it may: read, submit, operate, administer")
	case !want.Expires.IsZero() && !want.Expires.After(time.Now()):
		return nil, fault.New(op, fault.Invalid, "it would have expired at %s already", want.Expires.UTC().Format(time.RFC3339))
	case all[want.Name] != nil:
		return nil, fault.New(op, fault.Exists, "there is a token %q already", want.Name)
	case len(all) >= access.MaxTokens:
		return nil, fault.New(op, fault.Overloaded, "there are %d tokens: delete some", len(all))
	}
	text, made := access.NewToken(want)
	is, err := s.cfg.Objects.Apply([]Text{{"the token", made.Section()}}, access.CallerOf(ctx).Name, Object{Kind: access.Kind, Name: made.Name}, NoRevision, false)
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("token created", "token", made.Name, "scopes", in.GetScopes(), "rules", made.Rules, "by", access.CallerOf(ctx).Name)
	return &adminpb.CreateTokenReply{Text: text, Token: tokenOf(&made, &is.Objects[0])}, nil
}

// tokens are those there are as objects, by name.
func (s *Server) tokens() (map[string]*Object, error) {
	list, _, err := s.cfg.Objects.List()
	all := map[string]*Object{}
	for i := range list {
		if list[i].Kind == access.Kind {
			all[list[i].Name] = &list[i]
		}
	}
	return all, err
}

func (s *Server) ListTokens(context.Context, *adminpb.ListTokensRequest) (*adminpb.ListTokensReply, error) {
	if s.cfg.Tokens == nil || s.cfg.Objects == nil {
		return nil, unsupported("list tokens", "this node has no tokens")
	}
	all, err := s.tokens()
	if err != nil {
		return nil, err
	}
	reply := &adminpb.ListTokensReply{}
	for _, t := range s.cfg.Tokens.List() {
		reply.Tokens = append(reply.Tokens, tokenOf(&t, all[t.Name]))
	}
	return reply, nil
}

func (s *Server) DeleteToken(ctx context.Context, in *adminpb.DeleteTokenRequest) (*adminpb.DeleteTokenReply, error) {
	if s.cfg.Tokens == nil || s.cfg.Objects == nil {
		return nil, unsupported("delete token", "this node has no tokens")
	}
	if _, err := s.cfg.Objects.Delete(access.Kind, in.GetName(), in.GetRevision()); err != nil {
		return nil, err
	}
	s.cfg.Log.Info("token deleted", "token", in.GetName(), "by", access.CallerOf(ctx).Name)
	return &adminpb.DeleteTokenReply{}, nil
}

// tokenOf is a token as it is told. o is it as an object; nil: it has gone meanwhile.
func tokenOf(t *access.Token, o *Object) *adminpb.Token {
	m := &adminpb.Token{Name: t.Name, Id: t.ID, Rules: t.Rules, Expires: timeOf(t.Expires), Used: timeOf(t.Used)}
	for _, s := range t.Scopes {
		m.Scopes = append(m.Scopes, s.String())
	}
	if o != nil {
		m.Created, m.By, m.Revision = timeOf(o.Changed), o.By, o.Revision
	}
	return m
}
