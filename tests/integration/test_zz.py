from tests.integration.test_resume import *
from tests.integration.program import twistd
TRACE='''
import sys,time
from pmdaemon.daemon import logs as L, logfollower as F
def tr(cls,name):
    o=getattr(cls,name)
    def f(self,*a,**k):
        r=o(self,*a,**k)
        sys.stderr.write("TRACE %.3f %s %r pos=%s end=%s\\n"%(time.time()%1000,name,[x for x in a if not hasattr(x,"file") and not isinstance(x,list)],getattr(self,"position",None),getattr(self,"_end",None))); sys.stderr.flush()
        return r
    setattr(cls,name,f)
for n in ("grown","_told","_follow","_let_go","open","close"): tr(L.Logs,n)
for n in ("told","_take_turn","_skip","stop","finish"): tr(F.LogFollower,n)
'''
class Z(ResumeCase):
    async def test_a(self):
        o=LiveDaemon.start
        async def st(*a,**k):
            return await o(*a,command=(*twistd("-n","--pidfile=",before=TRACE),"pmdaemon"),**k)
        self.patch(LiveDaemon,"start",st)
        daemon = await self.begin()
        client = await self.follow(daemon, "log_message")
        await self.say(daemon, b"".join(b"line %d\n" % number for number in range(10_000)))
        try:
            await client.expect(lambda m: m["data"].get("message")=="line 9999", timeout=3)
        finally:
            print(daemon.log[-6000:])
del ReplayTests, ContentTests, SnapshotTests
