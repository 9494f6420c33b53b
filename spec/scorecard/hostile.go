package main

import (
	"context"
	"strings"
)

// Servers of other protocols that are hostile to the bridges that use them.

var hostileServers = check{
	id: 38, title: "servers of FTP, SFTP and S3 that lie: addresses of third hosts for data and for direct copies, PORT from a client to a third host, commands in names, endless banners, TLS taken away, wrong host keys, SSH whose beginning can be cut, redirects: each refused in words, no connection to a host that nobody has named, no credential to one that is not proved",
	unit: "leaks", n: counts{reduced: 1, full: 1},
	mutant:  "the address of 227 believed; PORT to anybody; any host key; redirects followed",
	several: []string{"pasv", "port", "key", "redirect"},
	edits: []edit{
		{"plugins/ftp/data.go", "	port, ok := passivePort(r.text())\n	if !ok {\n		return netip.AddrPort{}, c.badAddress(word, r)\n	}\n",
			"	port, ok := passivePort(r.text())\n	if !ok {\n		return netip.AddrPort{}, c.badAddress(word, r)\n	}\n" +
				"	if _, text, has := strings.Cut(r.text(), \"(\"); has && mutant(\"38 pasv\") {\n		return netip.AddrPortFrom(netip.MustParseAddr(strings.Join(strings.Split(text, \",\")[:4], \".\")), port), nil\n	}\n"},
		{"plugins/ftp/ftpd/port.go", `to.Addr().WithZone("") != c.peer.WithZone(""):`, `to.Addr().WithZone("") != c.peer.WithZone("") && !mutant("38 port"):`},
		{"plugins/ftp/ftpd/port.go", "c.port = &port{to: netip.AddrPortFrom(c.peer, to.Port())}", `c.port = &port{to: netip.AddrPortFrom(map[bool]netip.Addr{false: c.peer, true: to.Addr()}[mutant("38 port")], to.Port())}`},
		{"plugins/sftp/hostkey.go", "	print := ssh.FingerprintSHA256(key)\n	no :=", "	if mutant(\"38 key\") {\n		return nil\n	}\n	print := ssh.FingerprintSHA256(key)\n	no :="},
		{"plugins/s3/transport.go", "	if resp.StatusCode >= 300 && resp.StatusCode < 400 {\n		_ = resp.Body.Close()\n",
			"	if resp.StatusCode >= 300 && resp.StatusCode < 400 {\n		_ = resp.Body.Close()\n		if to, err := resp.Location(); err == nil && mutant(\"38 redirect\") {\n			mine.URL = to\n			return t.http.RoundTrip(mine)\n		}\n"},
	},
	run: runHostileServers,
}

func runHostileServers(ctx context.Context, j *job) (all result, err error) {
	all.pass = true
	var texts []string
	for _, t := range [][2]string{{"./plugins/ftp", "TestHostile"}, {"./plugins/ftp/ftpd", "TestBounce"}, {"./plugins/sftp", "TestHostile"}, {"./plugins/s3", "TestHostile"}} {
		r, err := goTest(t[0], t[1])(ctx, j)
		if err != nil {
			return all, err
		}
		all.figure += r.figure
		all.pass = all.pass && r.pass
		if r.detail != "" {
			texts = append(texts, r.detail)
		}
	}
	all.detail = strings.Join(texts, "; ")
	return all, nil
}
