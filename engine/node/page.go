package node

import (
	"context"
	"net/http"
	"os"
	"strings"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/web"
)

// mountPage serves the web page where the node speaks HTTP.
func (n *Node) mountPage() error {
	page, err := web.New(web.Config{
		Admin: n.admin.Local(), Caller: n.visitor, Login: "/login", Logout: "/logout", Log: n.log,
		Self: access.With(context.Background(), access.Local(os.Getuid())),
	})
	if err != nil {
		return err
	}
	n.undone(func() error { page.Close(); return nil }) // before the server, which waits for streams
	for _, r := range web.Routes() {
		scope := access.Public
		if r.Needs.Read {
			scope = access.Read
		} else if r.Needs.Operate {
			scope = access.Operate
		}
		var h http.Handler = page
		if strings.HasPrefix(r.Pattern, "POST ") { // orders for thousands take their time
			h = httpd.Patient(page)
		}
		n.http.Mount(r.Pattern, h, scope)
	}
	return nil
}

// visitor is who looks at the page, with what their token may now.
func (n *Node) visitor(r *http.Request) (web.Caller, bool) {
	c := access.CallerOf(r.Context())
	if c.ID != "" {
		var err error
		if c, err = n.tokens.ByID(c.ID); err != nil {
			return web.Caller{}, false // it was taken back
		}
	}
	return web.Caller{Name: c.Name, Read: c.May(access.Read), Submit: c.May(access.Submit), Operate: c.May(access.Operate), Administer: c.May(access.Administer),
		LoggedIn: c.ID != "" && r.Header.Get("Authorization") == ""}, c.Name != ""
}
