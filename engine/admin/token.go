package admin

import (
	"context"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
)

func (s *Server) CreateToken(ctx context.Context, in *adminpb.CreateTokenRequest) (*adminpb.CreateTokenReply, error) {
	if s.cfg.Tokens == nil {
		return nil, unsupported("create token", "this node has no tokens")
	}
	want := access.Token{Name: in.GetName(), Rules: in.GetRules(), By: access.CallerOf(ctx).Name}
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
	text, made, err := s.cfg.Tokens.Create(want)
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("token created", "token", made.Name, "scopes", in.GetScopes(), "rules", made.Rules, "by", made.By)
	return &adminpb.CreateTokenReply{Text: text, Token: tokenOf(&made)}, nil
}

func (s *Server) ListTokens(context.Context, *adminpb.ListTokensRequest) (*adminpb.ListTokensReply, error) {
	if s.cfg.Tokens == nil {
		return nil, unsupported("list tokens", "this node has no tokens")
	}
	reply := &adminpb.ListTokensReply{}
	for _, t := range s.cfg.Tokens.List() {
		reply.Tokens = append(reply.Tokens, tokenOf(&t))
	}
	return reply, nil
}

func (s *Server) DeleteToken(ctx context.Context, in *adminpb.DeleteTokenRequest) (*adminpb.DeleteTokenReply, error) {
	if s.cfg.Tokens == nil {
		return nil, unsupported("delete token", "this node has no tokens")
	}
	if err := s.cfg.Tokens.Delete(in.GetName()); err != nil {
		return nil, err
	}
	s.cfg.Log.Info("token deleted", "token", in.GetName(), "by", access.CallerOf(ctx).Name)
	return &adminpb.DeleteTokenReply{}, nil
}

func tokenOf(t *access.Token) *adminpb.Token {
	m := &adminpb.Token{Name: t.Name, Id: t.ID, Rules: t.Rules, Created: timeOf(t.Created), By: t.By, Expires: timeOf(t.Expires), Used: timeOf(t.Used)}
	for _, s := range t.Scopes {
		m.Scopes = append(m.Scopes, s.String())
	}
	return m
}
