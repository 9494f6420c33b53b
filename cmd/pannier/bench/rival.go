package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// A rival is another client, a program of this host, that does what a plugin does.
type rival interface {
	// lacks says what is missing to use it with these endpoints; "": nothing.
	lacks(ends ...plugins.Endpoint) string
	// command is what moves files between this host and the server. The names at both
	// ends are those of the list; it may write files into the errand's directory.
	command(e errand) (*exec.Cmd, error)
}

// otherScheme is what a rival of another protocol lacks; it goes without saying.
const otherScheme = "other scheme"

// errand is what a rival is sent for.
type errand struct {
	ctx    context.Context
	dir    string            // for its configuration; nobody else can read it
	at     plugins.Endpoint  // the server
	to     *plugins.Endpoint // copied to; nil: to or from this host
	put    bool              // to the server
	local  string            // directory here
	remote string            // directory there, below the endpoint's base; of both servers
	names  []string          // of files; one has the same name at both ends
	once   int               // files at a time
}

// run runs the rival; cpu is what it and its children have computed, in seconds.
func (e errand) run(r rival) (cpu float64, err error) {
	cmd, err := r.command(e)
	if err != nil {
		return 0, err
	}
	detach(cmd)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.dir, "LANG=C"}, cmd.Env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		if e.ctx.Err() != nil {
			return 0, fault.Wrap("run", cmd.Path, e.ctx.Err())
		}
		text := said.String()
		return 0, fault.New("run "+filepath.Base(cmd.Path), fault.Internal, "%w; it said: %s", err, fault.Shown(text[max(0, len(text)-500):]))
	}
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), nil
}

// private writes a file that nobody else can read.
func (e errand) private(name, text string) (path string, err error) {
	path = filepath.Join(e.dir, name)
	return path, fault.Wrap("write", path, os.WriteFile(path, []byte(text), 0o600))
}

// installed says what is missing if the program is.
func installed(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return "no " + program
	}
	return ""
}

// speaks is whether all endpoints have one of the schemes.
func speaks(ends []plugins.Endpoint, schemes ...string) bool {
	return !slices.ContainsFunc(ends, func(e plugins.Endpoint) bool { return !slices.Contains(schemes, scheme(e.URL)) })
}

// lftp is of FTP, and of FXP.
type lftp struct{}

func (lftp) lacks(ends ...plugins.Endpoint) string {
	if !speaks(ends, "ftp", "ftps") {
		return otherScheme
	}
	return installed("lftp")
}

func (lftp) command(e errand) (*exec.Cmd, error) {
	var s strings.Builder
	set := func(name, value string) { fmt.Fprintf(&s, "set %s %s\n", name, strconv.Quote(value)) }
	set("cmd:fail-exit", "yes")
	set("cmd:parallel", strconv.Itoa(e.once))
	set("net:max-retries", "2")
	switch secure := e.at.Options["tls"]; {
	case scheme(e.at.URL) == "ftps" || secure == "require" || secure == "explicit":
		set("ftp:ssl-force", "yes")
		set("ftp:ssl-protect-data", "yes")
	default:
		set("ftp:ssl-allow", "no")
	}
	if ca := e.at.Options["ca"]; ca != "" {
		set("ssl:ca-file", ca)
	} else if e.at.Options["pin"] != "" { // which it does not know
		set("ssl:verify-certificate", "no")
	}
	if e.to != nil {
		set("ftp:use-fxp", "yes")
		set("ftp:fxp-force", "yes")
	}
	there, err := remoteURL(e.at, e.remote)
	if err != nil {
		return nil, err
	}
	into := ""
	if e.to != nil {
		if into, err = remoteURL(*e.to, e.remote); err != nil {
			return nil, err
		}
	}
	for _, name := range e.names {
		local := filepath.Join(e.local, name)
		switch {
		case e.to != nil:
			fmt.Fprintf(&s, "get \"%s/%s\" -o \"%s/%s\"\n", there, name, into, name)
		case e.put:
			fmt.Fprintf(&s, "put %s -o \"%s/%s\"\n", strconv.Quote(local), there, name)
		default:
			fmt.Fprintf(&s, "get \"%s/%s\" -o %s\n", there, name, strconv.Quote(local))
		}
	}
	s.WriteString("wait all\n")
	script, err := e.private("lftp", s.String())
	return exec.CommandContext(e.ctx, "lftp", "--norc", "-f", script), err
}

// remoteURL is a directory at an endpoint of FTP with name and password, for a script.
func remoteURL(e plugins.Endpoint, dir string) (string, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return "", fault.Wrap("read --endpoint", e.URL, err)
	}
	u.User = url.UserPassword(e.User, e.Password)
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	if strings.HasPrefix(base, "//") {
		base = "/%2F" + base[2:]
	}
	return u.Scheme + "://" + u.User.String() + "@" + u.Host + base + dir, nil
}

// openSSH is sftp with a key; it takes no password without somebody who types it.
type openSSH struct{}

func (openSSH) lacks(ends ...plugins.Endpoint) string {
	switch {
	case !speaks(ends, "sftp"):
		return otherScheme
	case ends[0].Secrets["key"] == "":
		return `no "key" in the credentials, and sftp takes no password from a program`
	}
	return installed("sftp")
}

func (openSSH) command(e errand) (*exec.Cmd, error) {
	u, err := url.Parse(e.at.URL)
	if err != nil {
		return nil, fault.Wrap("read --endpoint", e.at.URL, err)
	}
	var batch strings.Builder
	for _, name := range e.names {
		here, there := strconv.Quote(filepath.Join(e.local, name)), strconv.Quote(sftpPath(u)+e.remote+"/"+name)
		if e.put {
			fmt.Fprintf(&batch, "put %s %s\n", here, there)
		} else {
			fmt.Fprintf(&batch, "get %s %s\n", there, here)
		}
	}
	key, err1 := e.private("key", e.at.Secrets["key"])
	script, err2 := e.private("batch", batch.String())
	// The plugin has checked the server's key already.
	args := []string{"-q", "-b", script, "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oIdentitiesOnly=yes", "-i", key, "-oUser=" + e.at.User}
	if port := u.Port(); port != "" {
		args = append(args, "-P", port)
	}
	return exec.CommandContext(e.ctx, "sftp", append(args, u.Hostname())...), errors.Join(err1, err2)
}

// sftpPath is the base of an endpoint as sftp's programs write it: below the directory
// that the login leads to, or of the root.
func sftpPath(u *url.URL) string {
	base := strings.TrimSuffix(u.Path, "/")
	if strings.HasPrefix(base, "//") {
		return base[1:]
	}
	return "." + base
}

// rclone is of S3 and SFTP: the schemes that it is compared for.
type rclone []string

func (r rclone) lacks(ends ...plugins.Endpoint) string {
	if !speaks(ends, r...) {
		return otherScheme
	}
	return installed("rclone")
}

func (rclone) command(e errand) (*exec.Cmd, error) {
	u, err := url.Parse(e.at.URL)
	if err != nil {
		return nil, fault.Wrap("read --endpoint", e.at.URL, err)
	}
	env := map[string]string{}
	var base string
	if u.Scheme == "sftp" {
		env["TYPE"], env["HOST"], env["PORT"], env["USER"] = "sftp", u.Hostname(), u.Port(), e.at.User
		env["DISABLE_HASHCHECK"], env["SET_MODTIME"], env["SHELL_TYPE"] = "true", "false", "none" // the plugin does none of it either
		if env["PORT"] == "" {
			env["PORT"] = "22"
		}
		if key := e.at.Secrets["key"]; key != "" {
			if env["KEY_FILE"], err = e.private("key", key); err != nil {
				return nil, err
			}
		}
		base = sftpPath(u)
	} else {
		url := "https://" + u.Host
		if u.Scheme == "s3+http" {
			url = "http://" + u.Host
		}
		env["TYPE"], env["PROVIDER"], env["ENDPOINT"], env["REGION"] = "s3", "Other", url, "us-east-1"
		env["ACCESS_KEY_ID"], env["SECRET_ACCESS_KEY"], env["SESSION_TOKEN"] = e.at.User, e.at.Password, e.at.Secrets["token"]
		env["NO_CHECK_BUCKET"] = "true"
		if r := e.at.Options["region"]; r != "" {
			env["REGION"] = r
		}
		base = strings.Trim(u.Path, "/")
	}
	from, to := e.local, "there:"+base+e.remote
	if !e.put {
		from, to = to, from
	}
	list, err := e.private("files", strings.Join(e.names, "\n")+"\n")
	if err != nil {
		return nil, err
	}
	once := strconv.Itoa(e.once)
	args := []string{"copy", "--config", "/dev/null", "--ignore-times", "--no-traverse", "--transfers", once, "--checkers", once, "--files-from-raw", list, from, to}
	if u.Scheme == "s3+http" {
		args = append(args, "--expect-continue-timeout", "0") // some servers never say it, and it waits a second for each part
	}
	switch {
	case e.at.Options["ca"] != "":
		args = append(args, "--ca-cert", e.at.Options["ca"])
	case e.at.Options["pin"] != "":
		args = append(args, "--no-check-certificate")
	}
	cmd := exec.CommandContext(e.ctx, "rclone", args...)
	for k, v := range env {
		if v != "" {
			cmd.Env = append(cmd.Env, "RCLONE_CONFIG_THERE_"+k+"="+v)
		}
	}
	return cmd, nil
}
