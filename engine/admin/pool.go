package admin

import (
	"context"

	"github.com/pannier/pannier/spec/adminpb"
)

// ListPools implements adminpb.AdminServer.
func (s *Server) ListPools(context.Context, *adminpb.ListPoolsRequest) (*adminpb.ListPoolsReply, error) {
	reply := &adminpb.ListPoolsReply{}
	for _, p := range s.cfg.Engine.Pools() {
		m := &adminpb.Pool{Name: p.Pool.Name, Rate: p.Rate, Next: timeOf(p.Next), NextRate: p.NextRate, Partners: p.Partners, Rules: p.Rules, Moved: p.Moved, Waiting: int32(p.Waiting)}
		for i := range p.Pool.Bandwidth {
			m.Bandwidth = append(m.Bandwidth, p.Pool.Bandwidth[i].String())
		}
		reply.Pools = append(reply.Pools, m)
	}
	return reply, nil
}
