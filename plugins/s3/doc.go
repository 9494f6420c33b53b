// Package s3 is the bridge for S3 and what speaks like it, over minio-go: its requests,
// signatures and errors. spec/plugin.md, "s3", has the options and what each call does.
//
// Files: driver.go options and login; tls.go certificates; transport.go, watch.go what any
// answer has to keep to; fail.go what errors mean; again.go what is tried again;
// session.go names and the simple calls; list.go, read.go; write.go, part.go, finish.go,
// abort.go a file on its way; resume.go what goes on with it; copy.go, copyparts.go.
package s3
