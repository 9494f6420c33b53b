package s3

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Driver is the driver "s3". It has no state.
type Driver struct{}

// Describe says what the driver is.
func (Driver) Describe() plugins.Description {
	return plugins.Description{
		Name: "s3", Version: "1", Schemes: []string{"s3", "s3+http"},
		Options: []plugins.Option{
			{Name: "region", Help: "Region that requests are signed for; of Amazon's hosts it follows from the name.", Default: "us-east-1"},
			{Name: "path-style", Help: "Where the bucket is said: on, in the path; off, in the host's name; auto, in the name at Amazon, Google and Alibaba, else in the path.", Default: "auto"},
			{Name: "ca", Help: "File with the certificates (PEM) of the authorities to trust, instead of the system's."},
			{Name: "pin", Help: "SHA-256 of the server's certificate in hexadecimal, or several with commas; no other is trusted, and no authority."},
			{Name: "part-size", Help: "MiB of a part of an upload, 5 to 64; larger where 10,000 parts would not do.", Default: "8"},
			{Name: "parallel", Help: "How many parts of a file are sent at a time, 1 to 16.", Default: "4"},
			{Name: "timeout", Help: "How long the server may be silent.", Default: "30s"},
			{Name: "checksum", Help: "What the server is to compare what it got by: crc32c, or off for servers that refuse it.", Default: "crc32c"},
			{Name: "max-entries", Help: "How many entries a directory may have.", Default: "1000000"},
		},
	}
}

// config is an endpoint, checked.
type config struct {
	secure     bool
	address    string // HOST[:PORT]
	where      string // "s3://HOST[:PORT]", for errors
	bucket     string
	base       string // of keys: "" or "DIR/SUB/"
	region     string
	lookup     minio.BucketLookupType
	roots      *x509.CertPool
	pins       [][]byte
	part       int64 // bytes
	parallel   int
	timeout    time.Duration
	crc        bool
	maxEntries int
	copyPart   int64 // bytes that a server copies at a time
}

func badOption(name, format string, args ...any) *fault.Error {
	return fault.New("s3 option "+name, fault.Invalid, format, args...)
}

func badEndpoint(format string, args ...any) *fault.Error {
	return fault.New("s3 endpoint", fault.Invalid, format, args...)
}

// at checks the URL of an endpoint.
func at(text string) (*config, *url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, nil, badEndpoint("the URL has a user; access key and secret key are the user and password of the credentials")
	}
	if err != nil || u.Hostname() == "" || (u.Scheme != "s3" && u.Scheme != "s3+http") || u.RawQuery != "" || u.Fragment != "" {
		return nil, nil, badEndpoint("%s is not s3://HOST[:PORT]/BUCKET[/BASE] or s3+http://...", fault.Shown(text))
	}
	c := &config{secure: u.Scheme == "s3", address: u.Host, where: u.Scheme + "://" + u.Host, copyPart: copyPart}
	bucket, base, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if err := s3utils.CheckValidBucketName(bucket); err != nil {
		return nil, nil, badEndpoint("%s is no name of a bucket: %s", fault.Shown(strconv.Quote(bucket)), fault.Shown(err.Error()))
	}
	c.bucket = bucket
	if base = strings.Trim(base, "/"); base != "" {
		if err := plugins.CheckName("/" + base); err != nil {
			return nil, nil, fault.Wrap("s3 endpoint", base, err)
		}
		c.base = base + "/"
	}
	return c, u, nil
}

// checked is an endpoint as far as its URL and options say, but for the files that those name.
func checked(text string, given map[string]string) (*config, *plugins.Values, error) {
	c, u, err := at(text)
	if err != nil {
		return nil, nil, err
	}
	o := plugins.ReadOptions("s3", (Driver{}).Describe().Options, given)
	if err := o.Err(); err != nil {
		return nil, nil, err
	}
	c.region = o.Text("region")
	if amazon := s3utils.GetRegionFromURL(url.URL{Host: u.Host}); amazon != "" && given["region"] == "" {
		c.region = amazon
	}
	if err := contradiction(u, given, o); err != nil {
		return nil, nil, err
	}
	return c, o, c.options(o)
}

// configure checks an endpoint without reaching anybody.
func configure(to plugins.Endpoint) (*config, error) {
	c, o, err := checked(to.URL, to.Options)
	if err != nil {
		return nil, err
	}
	if to.User == "" && (to.Password != "" || to.Secrets["token"] != "") {
		return nil, badEndpoint("the credentials have a password or a token, and no user: requests would not be signed").Advise("write the access key as user")
	}
	return c, c.authorities(o.Text("ca"))
}

// CheckEndpoint implements plugins.EndpointChecker.
func (Driver) CheckEndpoint(url string, options map[string]string) error {
	_, _, err := checked(url, options)
	return err
}

// contradiction is what says two things, of which one would not be heeded.
func contradiction(u *url.URL, given map[string]string, o *plugins.Values) error {
	for _, name := range []string{"ca", "pin"} {
		if o.Text(name) != "" && u.Scheme != "s3" {
			return badOption(name, "%s has no TLS, and so no certificate", fault.Shown(u.Scheme+"://")).Advise("write s3:// in the endpoint, or leave the option out")
		}
	}
	if o.Text("path-style") == "off" && net.ParseIP(u.Hostname()) != nil {
		return badOption("path-style", "off puts the bucket before the host's name, and %s is an address", fault.Shown(u.Hostname())).Advise("write path-style=on")
	}
	if amazon := s3utils.GetRegionFromURL(url.URL{Host: u.Host}); amazon != "" && given["region"] != "" && given["region"] != amazon {
		return badOption("region", "the endpoint's host is of %s", fault.Shown(amazon)).Advise("leave the option out, or name the host of the other region")
	}
	return nil
}

// options checks those, but for the files that they name.
func (c *config) options(o *plugins.Values) (err error) {
	style := o.One("path-style", "auto", "on", "off")
	c.part, c.parallel, c.maxEntries = int64(o.Between("part-size", 5, 64))<<20, o.Number("parallel", 16), o.Number("max-entries", 1e9)
	c.timeout, c.crc = o.Duration("timeout", time.Millisecond, time.Hour), o.One("checksum", "crc32c", "off") == "crc32c"
	if c.region == "" || strings.ContainsFunc(c.region, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		o.Fail(o.Bad("region", "it is a name as us-east-1"))
	}
	if o.Err() != nil {
		return o.Err()
	}
	c.lookup = map[string]minio.BucketLookupType{"auto": minio.BucketLookupAuto, "on": minio.BucketLookupPath, "off": minio.BucketLookupDNS}[style]
	if pin := o.Text("pin"); pin != "" {
		c.pins, err = parsePins(pin)
	}
	return err
}

// authorities reads the file of the option ca.
func (c *config) authorities(file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fault.Wrap("s3 option ca", file, err)
	}
	c.roots = x509.NewCertPool()
	if !c.roots.AppendCertsFromPEM(pem) {
		return badOption("ca", "%s has no certificate in PEM", fault.Shown(file))
	}
	return nil
}

// Open asks for the first name below the base: by that the server shows whether it knows
// the keys, and whether the user may list.
func (Driver) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	cfg, err := configure(to)
	if err != nil {
		return nil, err
	}
	creds := credentials.NewStaticV4(to.User, to.Password, to.Secrets["token"])
	if to.User == "" {
		creds = credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	}
	s := &session{config: cfg, http: newTransport(cfg)}
	s.core, err = minio.NewCore(cfg.address, &minio.Options{
		Creds: creds, Secure: cfg.secure, Transport: s.http, Region: cfg.region, BucketLookup: cfg.lookup,
		MaxRetries: 1, // again.go does it, within the caller's time
	})
	if err != nil {
		return nil, badEndpoint("%s", fault.Shown(err.Error()))
	}
	s.core.SetS3EnableDualstack(false)
	s.over, s.end = context.WithCancelCause(context.Background())
	may := true
	if _, err := s.first(ctx, cfg.base); err != nil {
		if fault.KindOf(err) != fault.Permission {
			_ = s.Close()
			return nil, err
		}
		may = false // who may only write is known by now
	}
	s.caps = s.capabilities(may)
	return s, nil
}

func (s *session) capabilities(list bool) plugins.Capabilities {
	k := plugins.Capabilities{Offsets: true, Write: true, Resume: true, Atomic: true, List: list, Rename: true, Remove: true, Mkdir: true, Copy: true}
	k.Notes = append(k.Notes, "S3 cannot rename: it copies, and then removes; there is a moment with both names")
	if !list {
		k.Notes = append(k.Notes, "this user may not list: directories are not seen, and what is not there looks like what may not be read")
	}
	if !s.config.secure {
		k.Notes = append(k.Notes, "nothing is encrypted, though what is sent is signed: use s3:// where the server can")
	}
	return k
}

var _ http.RoundTripper = (*transport)(nil)
