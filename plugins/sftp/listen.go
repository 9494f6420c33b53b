package sftp

import (
	"context"
	"net"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/sftp/sftpd"
)

// Listen implements plugins.Server: the server is in package sftpd.
func (Driver) Listen(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	return sftpd.Serve(ctx, l, options, node)
}
