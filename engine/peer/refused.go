package peer

import "github.com/pannier/pannier/spec/fault"

// refuse tells of a caller that is no partner.
func (s *Server) refuse(who string, err error) error {
	if err != nil && s.o.Refused != nil && fault.KindOf(err) == fault.Unauthenticated {
		s.o.Refused(who, err)
	}
	return err
}
