package sftp

import (
	"context"
	"net"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/sftp/sftpd"
)

// CheckListen implements plugins.ListenChecker.
func (Driver) CheckListen(options map[string]string) error { return sftpd.CheckOptions(options) }

// Listen implements plugins.Server: the server is in package sftpd.
func (Driver) Listen(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	return sftpd.Serve(ctx, l, options, node)
}
