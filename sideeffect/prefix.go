package sideeffect

import (
	"context"

	"github.com/pannier/pannier/spec/fault"
)

// VerifyPrefix decides at the source whether a transfer may continue from p: the
// source must be of the same version, and its first p.Offset bytes, read
// again, must have the same root. Then same is true, and h, with algorithm a, has seen those
// bytes and fits SendPlan.Prefix. Otherwise the transfer starts from zero;
// it is never spliced. err is only about reading.
func VerifyPrefix(ctx context.Context, src Source, p ResumePoint, a Algorithm) (h *Hasher, same bool, err error) {
	size := src.Size()
	if p.Offset <= 0 || !src.Rewindable() || src.Version() != p.Version || size >= 0 && p.Offset > size ||
		p.BlockSize <= 0 || p.BlockSize > MaxBlockSize {
		return nil, false, nil
	}
	if h, err = NewHasher(a); err != nil {
		return nil, false, err
	}
	defer interruptOn(ctx, src)()
	root, err := RootOf(ctx, &sourceReader{src: src}, p.Offset, p.BlockSize, h)
	if err != nil {
		return nil, false, because(ctx, "verify prefix", fault.Wrap("verify prefix", "", err))
	}
	if root != p.Root {
		return nil, false, nil
	}
	return h, true, nil
}
