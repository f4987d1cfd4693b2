import torch,time
torch.set_num_threads(1)
I,JK,d,B=16,160,8,128
W=torch.randn(I,JK,d);C=torch.randn(I,d,B);V=torch.randn(I,JK,B)
out=torch.empty(I,d,B)
def t(name,f,n=300):
    f(); best=1e9
    for _ in range(8):
        a=time.process_time(); [f() for _ in range(n//8)]; best=min(best,(time.process_time()-a)/(n//8))
    print(name, f'{best*1e6:.0f} us', f'{I*JK*d*B/best/1e9:.1f} GMAC/s')
t('V=WC',lambda:torch.bmm(W,C))
t('V=WtC',lambda:torch.bmm(W.transpose(1,2).contiguous().transpose(1,2),C))
t('dC=WtV',lambda:torch.bmm(W.transpose(1,2),V,out=out))
t('dW=VCt',lambda:torch.bmm(V,C.transpose(1,2)))
t('dWt=CVt',lambda:torch.bmm(C,V.transpose(1,2)))
# batch-first
V2=torch.randn(I,B,JK);C2=torch.randn(I,B,d);W2=torch.randn(I,d,JK)
t('b V=CW',lambda:torch.bmm(C2,W2))
t('b dC=VWt',lambda:torch.bmm(V2,W2.transpose(1,2)))
t('b dW=CtV',lambda:torch.bmm(C2.transpose(1,2),V2))
V5=V.view(I,1,10,16,B); r=torch.randn(I,1,10,1,B); g=torch.randn(1,10,16,B); r0=V.clone()
t('mul',lambda:V5*r); t('mul_',lambda:V5.mul_(r)); t('VV',lambda:V5*V5); t('sum k',lambda:V5.sum((1,3),keepdim=True)); t('sum k3',lambda:V5.sum(3,keepdim=True)); t('sum i',lambda:V5.sum(0)); t('addcmul',lambda:torch.addcmul(g,V5,g)); t('addcmulr',lambda:V5.addcmul(V5,r,value=-1))
t('mm',lambda:torch.mm(W.view(-1,d),C[0]))
