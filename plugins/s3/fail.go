package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// codes are what servers say, and what sort of failure that is. What is not here goes by
// its HTTP status.
var codes = map[string]fault.Kind{
	"NoSuchKey": fault.NotFound, "NoSuchBucket": fault.NotFound, "NoSuchVersion": fault.NotFound,
	"NoSuchUpload":       fault.Stale,
	"InvalidAccessKeyId": fault.Unauthenticated, "XAdminUserNotFound": fault.Unauthenticated, "SignatureDoesNotMatch": fault.Unauthenticated, "RequestTimeTooSkewed": fault.Unauthenticated,
	"RequestExpired": fault.Unauthenticated, "InvalidToken": fault.Unauthenticated, "ExpiredToken": fault.Unauthenticated, "TokenRefreshRequired": fault.Unauthenticated,
	"AuthorizationHeaderMalformed": fault.Unauthenticated, "InvalidRegion": fault.Unauthenticated, "IncorrectEndpoint": fault.Unauthenticated,
	"AccessDenied": fault.Permission, "AllAccessDisabled": fault.Permission, "AccountProblem": fault.Permission,
	"SlowDown": fault.Overloaded, "SlowDownRead": fault.Overloaded, "SlowDownWrite": fault.Overloaded, "ServiceUnavailable": fault.Overloaded, "Busy": fault.Overloaded,
	"Throttling": fault.Overloaded, "ThrottlingException": fault.Overloaded, "RequestLimitExceeded": fault.Overloaded, "TooManyRequests": fault.Overloaded,
	"BandwidthLimitExceeded": fault.Overloaded, "OperationAborted": fault.Overloaded, "ConditionalRequestConflict": fault.Overloaded,
	"InternalError": fault.IO, "RequestTimeout": fault.Lost, "IncompleteBody": fault.Lost,
	"QuotaExceeded": fault.NoSpace, "XMinioAdminBucketQuotaExceeded": fault.NoSpace, "XMinioStorageFull": fault.NoSpace, "StorageFull": fault.NoSpace, "InsufficientStorage": fault.NoSpace,
	"BadDigest": fault.Corrupt, "InvalidDigest": fault.Corrupt, "XAmzContentSHA256Mismatch": fault.Corrupt, "XAmzContentChecksumMismatch": fault.Corrupt,
	"ChecksumMismatch": fault.Corrupt, "InvalidPart": fault.Corrupt,
	"PreconditionFailed": fault.SourceChanged,
	"KeyTooLongError":    fault.TooLong, "EntityTooLarge": fault.TooLong,
	"InvalidBucketName": fault.Invalid, "InvalidArgument": fault.Invalid, "InvalidRange": fault.Invalid, "InvalidURI": fault.Invalid, "EntityTooSmall": fault.Invalid,
	"XMinioInvalidObjectName": fault.Invalid, "ObjectParentIsFile": fault.Invalid, "XMinioParentIsObject": fault.Invalid, "ObjectExistsAsDirectory": fault.Invalid,
	"ExistingObjectIsDirectory": fault.Invalid, "DirectoryNotEmpty": fault.Invalid,
	"NotImplemented": fault.Unsupported, "MethodNotAllowed": fault.Unsupported,
	"InvalidObjectState": fault.Refused,
}

// quotas are what servers say of a bucket that may have no more, beside a code of another kind: Garage AccessDenied,
// Ozone InternalError.
var quotas = []string{"quota", "storage cap"}

// kindOf is what sort of failure an error of a server is.
func kindOf(r minio.ErrorResponse) fault.Kind {
	kind := coded(r)
	if kind == fault.Permission || kind == fault.IO {
		said := strings.ToLower(r.Message)
		if slices.ContainsFunc(quotas, func(q string) bool { return strings.Contains(said, q) }) {
			return fault.NoSpace
		}
	}
	return kind
}

// coded is kindOf by the code, or the status.
func coded(r minio.ErrorResponse) fault.Kind {
	if k, ok := codes[r.Code]; ok {
		return k
	}
	switch r.StatusCode {
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusForbidden:
		return fault.Permission
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fault.Unsupported
	case http.StatusRequestTimeout:
		return fault.Lost
	case http.StatusPreconditionFailed:
		return fault.SourceChanged
	case http.StatusRequestEntityTooLarge:
		return fault.TooLong
	case http.StatusRequestedRangeNotSatisfiable:
		return fault.Invalid
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fault.Overloaded
	case http.StatusInsufficientStorage:
		return fault.NoSpace
	}
	if r.StatusCode >= 500 {
		return fault.IO
	}
	return fault.Refused
}

// advice is what to change after an error of a server.
func (s *session) advice(kind fault.Kind, r minio.ErrorResponse) string {
	switch r.Code {
	case "RequestTimeTooSkewed", "RequestExpired":
		ahead, which := time.Duration(s.http.clock.Load()).Round(time.Second), "ahead of"
		if ahead < 0 {
			ahead, which = -ahead, "behind"
		}
		return fmt.Sprintf("signatures hold for minutes only: the server's clock is %v %s this host's; set the wrong one right", ahead, which)
	case "NoSuchBucket":
		return "correct the bucket in the URL of the endpoint, or make it at the server"
	case "InvalidAccessKeyId", "XAdminUserNotFound":
		return "correct the access key, which is the user of the credentials; see that it is of this server"
	case "SignatureDoesNotMatch":
		return "correct the secret key, which is the password of the credentials; if it is right, something between here and the server changes requests"
	case "InvalidToken", "ExpiredToken", "TokenRefreshRequired":
		return "renew the keys and the secret token of the credentials"
	case "AuthorizationHeaderMalformed", "InvalidRegion", "IncorrectEndpoint":
		if r.Region != "" {
			return "set the option region to " + string(fault.Shown(r.Region)) + ", and the host to one of that region"
		}
		return "set the option region to that of the bucket"
	case "InvalidObjectState":
		return "the file is in an archive; have the server restore it first"
	case "NoSuchUpload":
		return "the server has given the unfinished upload up; begin anew, and see whether a lifecycle rule ends uploads too early"
	case "EntityTooLarge":
		return "the file is larger than the server takes"
	}
	switch kind {
	case fault.NotFound:
		return "check the name, and that it is below the endpoint's base"
	case fault.Permission:
		return "let the user do this: the policy of the bucket, or of the user, says no"
	case fault.NoSpace:
		return "make room at the server, or raise the quota there"
	case fault.Overloaded:
		return "the server asks for fewer requests: try later, or set the option parallel lower"
	case fault.Unsupported:
		return "the server does not know this; set checksum=off if it is an old one"
	case fault.SourceChanged:
		return "another file has the name now; begin anew"
	case fault.Invalid:
		return "name a file where a file is wanted, and see which names the server takes"
	case fault.Corrupt:
		return changed
	case fault.Unauthenticated:
		return "correct the keys, which are user and password of the credentials of the endpoint"
	case fault.TooLong:
		return "give it a shorter name, or a shorter base in the URL of the endpoint"
	case fault.Refused:
		return "ask the server's operator, or its log, why it says so"
	case fault.IO:
		return "the server's log says what is wrong with it"
	}
	return ""
}

// changed and noServer are what to do about bytes that are others at the server, and about a server that breaks the protocol.
const (
	changed  = "send it again; if it happens again, something on the way or at the server changes bytes"
	noServer = "see that the endpoint is a server of S3, and that nothing on the way changes what it says"
)

// at is the subject of errors: the server, the bucket and the key.
func (s *session) at(key string) string { return s.config.where + "/" + s.config.bucket + "/" + key }

// failed is the error of a request: which, on what, what the server or the network said.
func (s *session) failed(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	op = "s3 " + op
	e := &fault.Error{Op: op, Kind: fault.Protocol, Side: fault.Inferred, Subject: s.at(key), Err: err}
	var r minio.ErrorResponse
	var ours *fault.Error
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var bad x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var request *url.Error
	var network net.Error
	var shaken plugins.Unshaken
	switch {
	case errors.As(err, &r) && r.StatusCode/100 == 2: // neither what was asked for nor an error
	case errors.As(err, &r):
		kind := kindOf(r)
		failure := plugins.Failure(op, kind, e.Subject, r.Code, strings.TrimSpace(r.Message))
		if errors.As(failure, &ours) {
			ours.Advice = s.advice(kind, r)
		}
		return failure
	case errors.As(err, &ours):
		e.Kind, e.Side, e.Err, e.Advice = ours.Kind, ours.Side, ours, ""
	case ctx.Err() != nil:
		e.Kind, e.Side, e.Err = fault.KindOf(ctx.Err()), fault.Here, ctx.Err()
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &bad):
		e.Kind, e.Advice = fault.Unauthenticated, "the certificate is not one to trust: set ca to a file with its authority's, or pin to the SHA-256 of the certificate"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.Advice = "the server does not speak TLS there; s3:// is TLS, s3+http:// is not, and can be read by all on the way"
	case errors.As(err, &shaken) && shaken.Disagreed():
		e.Kind, e.Advice = fault.Unsupported, plugins.UnshakenAdvice
	case errors.As(err, &network) && network.Timeout():
		e.Kind = fault.DeadPeer
	case errors.As(err, &request), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		e.Kind = fault.Lost
	}
	if e.Kind == fault.Protocol && fault.Advice(e) == "" {
		e.Advice = noServer
	}
	return e
}

// said is the error of what this end concluded from what the server did.
func (s *session) said(kind fault.Kind, op, key, format string, args ...any) *fault.Error {
	e := &fault.Error{Op: "s3 " + op, Kind: kind, Side: fault.Inferred, Subject: s.at(key), Err: fmt.Errorf(format, args...)}
	if kind == fault.Protocol {
		e.Advice = noServer
	}
	return e
}
