package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/engine/rest"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// tokensFile has when the node's tokens were used, in the state directory; of an older version, the tokens.
const tokensFile = "tokens.json"

// certificateFile has the node's own certificate for browsers, in the state directory.
const certificateFile = "http.pem"

// TokensPath is their file in a state directory.
func TokensPath(state string) string { return filepath.Join(state, tokensFile) }

// newTokens begins with the tokens of the configuration. Those that an older version has kept in a
// file of its own become objects, which they are from then on.
func (n *Node) newTokens() error {
	var before []access.Before
	var err error
	if n.tokens, before, err = access.OpenTokens(TokensPath(n.fixed.State), n.log); err != nil {
		return err
	}
	now := *n.present.Load()
	if before != nil {
		if now.cfg, err = n.takeTokens(now.cfg, before); err != nil {
			return fault.Wrap("make objects of the tokens of an older version", TokensPath(n.fixed.State), err)
		}
		n.present.Store(&now)
	}
	n.tokens.Set(now.cfg.Tokens)
	set, err := objects.Read(n.fixed.State)
	if err != nil {
		return err
	}
	n.applied.Store(&set)
	if before != nil {
		return n.tokens.Forget()
	}
	return nil
}

// takeTokens writes tokens down as objects. A crash after that does it again, and changes nothing.
func (n *Node) takeTokens(cfg *config.Config, before []access.Before) (*config.Config, error) {
	old, err := objects.Read(n.fixed.State)
	if err != nil {
		return nil, err
	}
	next := old
	for _, b := range before {
		was := b.Name
		name := config.ObjectName(b.Name)
		taken := func() *objects.Object { b.Name = name; return next.Find(access.Kind, name) }
		for i, base := 2, name[:min(len(name), 60)]; taken() != nil && taken().Text != b.Section(); i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		if taken() != nil {
			continue // before a crash
		}
		if b.Name != was {
			n.log.Warn("a token has another name now, because its own cannot be an object's", "token", was, "name", b.Name)
		}
		next.Revision = old.Revision + 1
		next = next.With(objects.Object{Kind: access.Kind, Name: b.Name, Text: b.Section(), Revision: next.Revision, Changed: b.Created, By: b.By})
	}
	if next.Revision == old.Revision {
		return cfg, nil
	}
	if cfg, err = cfg.With(sources(next)...); err != nil {
		return nil, err
	}
	return cfg, next.Write(n.fixed.State)
}

// listenHTTP opens where the node speaks HTTP, unless it is nowhere. What is served there
// is mounted here.
func (n *Node) listenHTTP(cfg *config.HTTP, id *carrier.Identity) error {
	if len(cfg.Listen) == 0 {
		return nil
	}
	cert, err := n.certificate(cfg, id)
	if err != nil {
		return err
	}
	if n.http, err = httpd.New(httpd.Config{Tokens: n.tokens, Local: admin.Access{}.Allows, Admin: n.admin.HTTP(), Style: web.Style(), Icon: web.Icon(), Log: n.log, Refused: n.refused, Session: n.session}); err != nil {
		return err
	}
	n.undone(func() error {
		n.admin.Close() // first: who watches hears the end
		n.http.Close()
		return nil
	})
	if err := rest.Mount(n.http, n.admin.Local(), rest.Options{}); err != nil {
		return err
	}
	if err := n.mountPage(); err != nil {
		return err
	}
	for _, r := range n.Health() {
		scope := access.Read
		if r.Public {
			scope = access.Public
		}
		n.http.Mount(r.Pattern, r.Handler, scope)
	}
	for _, address := range cfg.Listen {
		if err := n.http.Listen(address, cert); err != nil {
			return err
		}
	}
	return nil
}

// certificate is what the node proves itself with to who speaks HTTP over TLS.
func (n *Node) certificate(cfg *config.HTTP, id *carrier.Identity) (httpd.Certificate, error) {
	switch {
	case cfg.Certificate != "":
		return httpd.Files(cfg.Certificate, cfg.Key)
	case !slices.ContainsFunc(cfg.Listen, func(address string) bool { return strings.HasPrefix(address, "tls://") }):
		return nil, nil
	}
	cert, print, err := httpd.Own(id.Certificate(), filepath.Join(n.fixed.State, certificateFile))
	if err == nil {
		n.log.Info("browsers are shown a certificate of this node's own", "fingerprint", print)
	}
	return cert, err
}

// HTTP is the node's server of HTTP, for those who mount something there before Run; nil:
// the node has none.
func (n *Node) HTTP() *httpd.Server { return n.http }
