package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/flow/flowtest/testcert"
)

// TestClients: ordinary clients of FTP, in clear, with explicit and with implicit TLS, and of SFTP, at listeners of
// one node: what they upload is at an sshd behind another node when they are told so, and what they download comes
// from there. So do two of the four relays at each node.
func TestClients(t *testing.T) {
	c := newConduit(t)
	ssh, bank, dir := sshserver.Start(t), t.TempDir(), t.TempDir()
	if out, err := c.foreign("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "id")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	trusted := testcert.New(t, t.TempDir(), "127.0.0.1")
	cert, key := trusted.File, trusted.Key
	at := map[string]string{}
	for _, way := range []string{"clear", "explicit", "implicit", "sftp"} {
		at[way] = freeport.For(t, "127.0.0.1")
	}
	user := `partner = "hostb", rule = "out", get = "exports"`
	tls := fmt.Sprintf("%q, %q", "cert="+cert, "key="+key)
	rules := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	exports := "[[rule]]\nname = \"exports\"\ndirection = \"receive\"\npartners = [\"*\"]\nroot = "
	c.write(rules+exports+"\"%ROOT%\"\n"+
		c.listens("ftp", at["clear"], `"tls=off"`, user)+c.listens("ftp", at["explicit"], tls, user)+c.listens("ftp", at["implicit"], `"tls=implicit", `+tls, user)+
		c.listens("sftp", at["sftp"], fmt.Sprintf("%q", "hostkey="+filepath.Join(dir, "host")), fmt.Sprintf("keys = \"file:%s\", %s", filepath.Join(dir, "id.pub"), user)),
		rules+"post = [ { task = \"bridge\", to = \"bank:/{name}\" }, { task = \"delete\" } ]\n"+exports+"\"bank:/\"\n"+sftpAt(t, ssh, "bank", bank, ssh.HostKey))
	c.start(c.b, c.a)
	for _, address := range at {
		c.reachable(address)
	}
	up := noise(2<<20 + 1)
	local := filepath.Join(dir, "up")
	c.wrote(local, up)

	lftp := func(settings, url string) func(name, back string) (string, error) {
		return func(name, back string) (string, error) {
			return c.foreign("lftp", "-c", "set cmd:fail-exit yes; set net:max-retries 1; "+settings+"open -u acme,secret "+url+"; put "+local+" -o "+name+"; get "+name+" -o "+back)
		}
	}
	curl := func(url string, options ...string) func(name, back string) (string, error) {
		return func(name, back string) (string, error) {
			options = append([]string{"-sSv", "-u", "acme:secret"}, options...)
			said, err := c.foreign("curl", append(options, "-T", local, url+"/"+name)...)
			if err != nil {
				return said, err
			}
			if !strings.Contains(said, "226 ") {
				return said, fmt.Errorf("the upload has no 226")
			}
			return c.foreign("curl", append(options, "-o", back, url+"/"+name)...)
		}
	}
	host, port, _ := net.SplitHostPort(at["sftp"])
	trust := []string{"-F", "none", "-i", filepath.Join(dir, "id"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"}
	for name, client := range map[string]func(name, back string) (string, error){
		"lftp":           lftp("set ftp:ssl-allow no; ", "ftp://"+at["clear"]),
		"lftp, explicit": lftp("set ftp:ssl-force yes; set ssl:ca-file "+cert+"; ", "ftp://"+at["explicit"]),
		"lftp, implicit": lftp("set ssl:ca-file "+cert+"; ", "ftps://"+at["implicit"]),
		"lftp, sftp":     lftp("set sftp:connect-program \"ssh -x "+strings.Join(trust, " ")+"\"; ", "sftp://"+at["sftp"]),
		"curl, explicit": curl("ftp://"+at["explicit"], "--ssl-reqd", "--cacert", cert),
		"curl, implicit": curl("ftps://"+at["implicit"], "--cacert", cert),
		"sftp": func(name, back string) (string, error) {
			batch := filepath.Join(t.TempDir(), "batch")
			c.wrote(batch, fmt.Appendf(nil, "put %s /%s\nget /%s %s\n", local, name, name, back))
			return c.foreign("sftp", append(append([]string{"-q", "-b", batch, "-P", port}, trust...), "acme@"+host)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, back := strings.NewReplacer(", ", "-").Replace(name)+".csv", filepath.Join(t.TempDir(), "back")
			if said, err := client(file, back); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			for _, path := range []string{filepath.Join(bank, file), back} {
				if got, err := os.ReadFile(path); err != nil || string(got) != string(up) {
					t.Errorf("%s has %d bytes of %d: %v", path, len(got), len(up), err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(c.b.Root, "*")); len(left) > 0 {
				t.Errorf("hostb keeps %v", left)
			}
		})
	}
}
