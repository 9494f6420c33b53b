package ftpserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Quotas are the servers that have one of their own for a user.
var Quotas = []string{"proftpd", "pure-ftpd"}

// Quota lets the user of one of Quotas have so many bytes at the server, which notes in .ftpquota (pure-ftpd)
// what there is.
func Quota(bytes int64) Option { return func(r *run) { r.quota = bytes } }

// Allow gives the user of a server with a Quota another one, of whoever logs in from then on.
func (s *Server) Allow(bytes int64) {
	s.run.t.Helper()
	s.run.quota = bytes
	if err := s.run.limit(); err != nil {
		s.run.t.Fatal(err)
	}
}

// limit writes the quota down.
func (r *run) limit() error {
	if r.kind == "pure-ftpd" {
		return r.users()
	}
	table := func(kind string) string { return filepath.Join(r.work, kind+".tab") }
	record := []string{"--type=limit", "--table-path=" + table("limit"), "--name=pannier", "--quota-type=user", "--limit-type=hard", "--units=byte", fmt.Sprintf("--bytes-upload=%d", r.quota)}
	if _, err := os.Stat(table("limit")); err == nil {
		return r.does("usr/sbin/ftpquota", append(record, "--update-record")...)
	}
	uid, gid := r.ids()
	for _, kind := range []string{"limit", "tally"} {
		if err := r.does("usr/sbin/ftpquota", "--create-table", "--type="+kind, "--table-path="+table(kind)); err != nil {
			return err
		}
		if err := os.Chown(table(kind), int(uid), int(gid)); err != nil {
			return err
		}
	}
	return r.does("usr/sbin/ftpquota", append(record, "--add-record")...)
}

// users is what pure-ftpd knows of its user.
func (r *run) users() error {
	limit := ""
	if r.quota > 0 {
		limit = fmt.Sprint(r.quota)
	}
	return r.does("usr/bin/pure-pw", "mkdb", filepath.Join(r.work, "users.pdb"), "-f", r.account("users", "/./:::::::"+limit+":::::"))
}

// does runs a program of the servers' packages.
func (r *run) does(program string, args ...string) error {
	if out, err := exec.Command(filepath.Join(r.root, program), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}
