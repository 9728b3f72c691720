import sys; sys.argv=[sys.argv[0],'smollm2',sys.argv[1],sys.argv[2],sys.argv[3],sys.argv[4],'/tmp/w/i5/k/g.so']; exec(open('/tmp/w/i5/k/ab.py').read())
